"""What the commands of ``outcomes`` do, one file for each, with what it shows; ``service.cli`` says what they take.

``crm-sync`` and ``sandbox`` are programs of their own: their commands are in their packages.
"""
