"""Pairs: a student and its teacher, generated with diffusers."""
