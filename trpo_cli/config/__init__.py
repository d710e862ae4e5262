"""From YAML to checked components."""
