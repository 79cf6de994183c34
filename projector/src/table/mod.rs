//! What the directory's memory is made of: columns that grow at their end, texts, and orders over them. All of them are
//! cheap to copy: a copy shares the pieces until one of the two writes to a piece. So whoever needs a moment to stand still
//! (a checkpoint, a long question) takes a copy and lets the directory go on.

mod column;
mod order;
mod stream;
mod texts;

pub(crate) use column::{Column, Plain, plain_struct};
pub(crate) use order::{Beginning, Order, Place, mark};
pub(crate) use stream::{Input, Output};
pub(crate) use texts::{CUT_BYTES_MIN, Text, Texts, cut};
