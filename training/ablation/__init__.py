"""The paper's Table 1 and Fig. 3 on phantoms: what each part of the method is worth (METHOD section 6)."""
