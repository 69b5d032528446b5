//! What an operator's `doctor` asks about this machine.
