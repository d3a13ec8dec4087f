"""The commands of ``outcomes``, one file for each duty, with what it shows; ``service.cli`` registers them.

``crm-sync`` and ``sandbox`` are programs of their own: their commands are in their packages.
"""
