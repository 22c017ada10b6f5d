/* sPyNNaker's makefiles want a file that says how structural plasticity is to form synapses: it does not. */
