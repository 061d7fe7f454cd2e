//! Tokenizers and chat templates against reference implementations, on real model files.

mod chats;
mod corpus;
mod files;
mod support;
mod vectors;
