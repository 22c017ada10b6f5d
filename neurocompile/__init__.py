"""neurocompile: compiles learning spiking networks (event-driven e-prop) for neuromorphic hardware."""

__version__ = "0.1.0"

__all__ = ["__version__"]
