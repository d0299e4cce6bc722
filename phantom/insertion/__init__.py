"""Synthetic lymph nodes inserted into real chest CTs, with each CT's own noise and sharpness."""
