"""The commands of ``outcomes`` and their output; ``service.cli`` has their arguments and options.

``crm-sync`` and ``sandbox`` are programs of their own: their commands are in their packages.
"""
