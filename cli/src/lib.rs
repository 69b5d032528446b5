//! The command line of Corelane.
