"""Paints the chest wall and the skin of a body slice by slice, and the couch under it."""

import numpy as np

from phantom.anatomy_body import ANGLES, Body, Wall
from phantom.shapes import polar
from phantom.slab import Slab
from phantom.texture import Texture

NOWHERE = -1e3  # mm; a band up to this depth is empty, for no voxel lies so deep


class SlicePainter:
    """One slice while it is painted: HU, depth in the wall, and textures, all float32 [Y, X]."""

    def __init__(self, body: Body, z: float, y: np.ndarray, x: np.ndarray, edge_mm: float, texture: Texture):
        self.body, self.z, self.y, self.x, self.edge_mm = body, z, y, x, edge_mm
        self.hu = body.patient.hu
        self.wall: Wall = body.wall(z)
        rho, self.index = polar(y, x, ANGLES)
        self.depth = (rho - self.look(self.wall.inner)) * self.look(self.wall.slope)
        self.to_skin = self.look(self.wall.skin) - rho
        self.fine = texture.look(texture.fine, np.array([z]), y[:, 0], x[0])[0]
        self.septa = texture.septa(np.array([z]), y[:, 0] * 0.7, x[0] * 0.7)[0]
        self.off_spine = (np.abs(x) > 14) | (y < 0)
        self.image = np.full(rho.shape, -1000.0, dtype=np.float32)

    def look(self, table: np.ndarray) -> np.ndarray:
        """A table over angles [ANGLES] as an image [Y, X]."""
        image: np.ndarray = table.astype(np.float32)[self.index]
        return image

    def blend(self, occupancy: np.ndarray, value: float | np.ndarray) -> None:
        """Move the HU towards `value` where `occupancy`, from 0 to 1, says."""
        self.image += occupancy * (value - self.image)

    def band(
        self, low: np.ndarray, high: np.ndarray, value: float | np.ndarray, limit: np.ndarray | None = None
    ) -> None:
        """Paint what lies below the skin between two depths, tables [ANGLES]. `limit`: a factor on its occupancy."""
        inside = np.minimum(self.depth - self.look(low), self.look(high) - self.depth)
        occupancy = np.clip(0.5 + inside / self.edge_mm, 0, 1) * (self.to_skin > 2)
        self.blend(occupancy if limit is None else occupancy * limit, value)

    def skin_and_fat(self) -> None:
        """Fat with septa everywhere within the body, then the skin."""
        body = np.clip(0.5 + self.to_skin / self.edge_mm, 0, 1)
        self.blend(body, self.hu["fat"] + 5 * self.fine + 22 * self.septa)
        self.blend(body * np.clip(0.5 + (1.8 - self.to_skin) / self.edge_mm, 0, 1), 20.0)

    def breast(self) -> None:
        """Streaks of glandular tissue in the fat in front of the pectoral muscle."""
        body, z = self.body, self.z
        if body.breast_mm < 14 or not -110 < z < 25:
            return
        bump = np.exp(-(((np.rad2deg(body.from_front) - 38) / 20) ** 2)) * np.exp(-(((z + 45) / 40) ** 2))
        share = self.look(bump) * np.clip((self.depth - 26) / 6, 0, 1) * np.clip((self.to_skin - 6) / 5, 0, 1)
        self.blend(np.clip(share * 1.4 + 0.35 * self.fine - 0.45, 0, 0.85), body.gland_hu)

    def muscles(self) -> None:
        """The sheets outside the ribs, then the intercostal muscles with a layer of fat in the middle."""
        body, z = self.body, self.z
        muscle = self.hu["muscle"] + 6 * self.fine - 18 * self.septa
        for low, high in self.wall.sheets:
            self.band(low, np.where(high - low > 0.4, high, low - 9), muscle)
        centre = self.wall.ribs[0]
        thickness = body.rib_half_thickness
        wavy = 0.15 * np.sin(11 * body.theta + 0.11 * z) + 0.1 * np.sin(23 * body.theta - 0.2 * z)
        low = centre - (0.5 + wavy) * thickness
        high = np.where(z < body.first_rib_mm(), centre + (0.5 + wavy) * thickness, NOWHERE)
        self.band(low, high, muscle - 3 * np.abs(self.fine), self.off_spine)
        middle = np.full(ANGLES, centre[0])
        fatty = self.off_spine * (np.sin(9 * self.look(body.theta) + z * 0.06) > -0.3)
        self.band(middle - 0.35, middle + 0.35, self.hu["fat"] * 0.3, fatty)

    def ribs(self) -> None:
        """Cortex, then marrow; cartilage towards the sternum."""
        centre, half, cartilage = self.wall.ribs
        soft = cartilage > 0.5
        cartilage_hu = self.body.cartilage_hu
        bone = np.where(soft, 320.0 if self.body.calcified else cartilage_hu, self.hu["cortical"])
        marrow = np.where(soft, cartilage_hu, self.hu["cancellous"] * 0.75)
        shell = np.where(soft, 0.6, 1.1)
        on, core = half > 0.5, half > shell + 0.3
        low, high = np.where(on, centre - half, 0), np.where(on, centre + half, NOWHERE)
        self.band(low, high, self.look(bone), self.off_spine)
        low, high = np.where(core, centre - half + shell, 0), np.where(core, centre + half - shell, NOWHERE)
        self.band(low, high, self.look(marrow) + 35 * self.fine, self.off_spine)

    def sternum(self) -> None:
        """Cortex and marrow of the sternum, whose upper part, the manubrium, is wider and thicker."""
        z, x = self.z, self.x
        if not -95 < z < 66:
            return
        manubrium = np.clip((z - 22) / 14, 0, 1)
        half_width = np.interp(z, [-95, -75, -20, 18, 26, 50, 66], [5, 14, 17, 13, 22, 30, 18])
        half_depth = 5.6 + 1.8 * manubrium
        front = self.wall.inner[ANGLES // 4]  # radius at the very front
        u = np.maximum(np.abs(x) / half_width, 1e-3)
        v = (self.y + front + half_depth + 1.5 - 0.004 * x * x) / half_depth
        k = (np.abs(u) ** 3 + np.abs(v) ** 3) ** (1 / 3)
        distance = (k - 1) * half_depth
        self.blend(np.clip(0.5 - distance / self.edge_mm, 0, 1), self.hu["cortical"] * 0.8)
        marrow = self.hu["cancellous"] * 0.8 + 45 * self.fine
        self.blend(np.clip(0.5 - (distance + 1.3) / self.edge_mm, 0, 1), marrow)


def paint_slice(
    body: Body, z: float, y: np.ndarray, x: np.ndarray, edge_mm: float, texture: Texture
) -> tuple[np.ndarray, np.ndarray]:
    """HU [Y, X] of the slice at reference height z, and depth in mm [Y, X], which is negative within the chest.

    The inside of the chest stays fat. y, x: reference coordinates [Y, X] of the pixels in mm.
    """
    painter = SlicePainter(body, z, y, x, edge_mm, texture)
    painter.skin_and_fat()
    painter.breast()
    painter.muscles()
    painter.ribs()
    painter.sternum()
    return painter.image, painter.depth


def paint_couch(body: Body, slab: Slab) -> None:
    """Paint the couch under the back, where there is air: a curved plate of light foam with a bright shell."""
    gap, bow, depth_mm = body.couch
    back = 112 * body.patient.scale[1] + body.patient.subcutaneous_fat_mm * 0.5 + gap
    x, y = slab.x[None, :], slab.y[:, None]
    top = back + 0.35 * gap - x * x / bow
    bottom = back + depth_mm - np.maximum(np.abs(x) - 120, 0) * 0.8
    image = np.full((len(slab.y), len(slab.x)), -1000.0, dtype=np.float32)
    width = np.abs(x) < 215
    inside = np.clip(0.5 + np.minimum(y - top, bottom - y) / slab.edge_mm, 0, 1) * width
    image += inside * 60
    for edge_y, hu, half in ((top, 150.0, 0.9), (bottom, 0.0, 0.7)):
        shell = np.clip(0.5 + (half - np.abs(y - edge_y)) / slab.edge_mm, 0, 1) * width * (bottom > top)
        image += shell * (hu - image)
    air = slab.hu < -990
    slab.hu[air] = np.broadcast_to(image, slab.hu.shape)[air]
