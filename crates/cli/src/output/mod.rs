//! Everything the program prints. Data goes to stdout, everything said to a person about it to stderr, and no byte that
//! came from another device reaches a terminal before [`text::clean`] has been over it.

pub(crate) mod progress;
pub(crate) mod qr;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod units;

mod printer;

pub(crate) use printer::Printer;
