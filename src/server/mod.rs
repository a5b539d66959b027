//! The server daemon.

pub mod config;
