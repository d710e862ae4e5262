"""Where copies of a run's rows go: the options of ``logger=``. What a logger is stands in ``runs/logger.py``."""
