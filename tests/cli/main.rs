//! The command line: what people and scripts see, and what is refused.

mod bench;
mod check;
mod commands;
mod disk;
mod files;
mod groups;
mod metadata;
mod secured;
mod start;
mod tokens;
