"""Figures and tables from run directories; nothing here simulates or learns, and torch is not imported."""
