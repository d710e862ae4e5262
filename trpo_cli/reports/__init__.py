"""Figures and tables from run directories. Nothing here simulates or trains, and torch is not imported."""
