"""Event-driven e-prop in integers for SpiNNaker's cores: scales, and the integer arithmetic (docs/spinnaker-eprop.md derives both).

``scales`` picks every number format from a rule's parameters; ``kernels`` does what the C of ``templates/extension`` does, bit for bit.
"""
