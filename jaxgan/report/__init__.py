"""The quality report of a trained generator: scores, maps, pictures, one HTML page."""
