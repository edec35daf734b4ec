//! The Lua binding has its own issue; until it is built, this crate is empty and no Lua module is shipped.
