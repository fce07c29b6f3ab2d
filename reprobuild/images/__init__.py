"""Layers and images as other tools know them: tar streams, configs, manifests, exports; the normal form."""
