"""Images and their geometry: arrays [Z, Y, X] in HU with the position of each voxel in the patient."""
