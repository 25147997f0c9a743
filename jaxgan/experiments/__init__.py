"""The mains: `python -m jaxgan.experiments.<name>`."""
