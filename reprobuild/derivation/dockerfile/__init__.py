"""Dockerfiles: text to instructions to the steps of an image. Pure; knows nothing of images or builds."""
