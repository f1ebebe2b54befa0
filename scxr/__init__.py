"""Scarce chest X-rays: self-supervised pretraining for radiographs when labels are scarce."""

__version__ = "0.1.0"
