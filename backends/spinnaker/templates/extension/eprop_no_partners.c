/* sPyNNaker's makefiles want a file that says how structural plasticity is to choose sources of synapses: it does not. */
