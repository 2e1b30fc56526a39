"""Heads where people make pictures: in diffusers' pipelines."""
