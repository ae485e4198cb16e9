"""Devices, processes, random seeds, files: what every layer above stands on."""
