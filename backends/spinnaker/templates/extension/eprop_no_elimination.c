/* sPyNNaker's makefiles want a file that says how structural plasticity is to remove synapses: it does not. */
