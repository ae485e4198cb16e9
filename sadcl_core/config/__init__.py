"""Settings: what there is, how layers of them are merged, methods and presets."""
