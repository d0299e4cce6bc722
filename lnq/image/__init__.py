"""Images and their geometry: arrays [Z, Y, X] in HU with the place of each voxel in the patient."""
