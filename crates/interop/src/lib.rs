//! Checks HoneyLink against other implementations of the standards it speaks. The tests are everything.
//!
//! A crate of its own because it needs another build environment: ring, the peer of today, needs a C compiler. As a
//! dev-dependency of `honeylink` it would also switch on rustls's feature `ring` in every test build of the product,
//! where code that forgot to pass our provider would then work in tests and fail in the field.
//!
//! Run it by its name, `cargo test -p honeylink-interop`: Cargo unifies features over all packages of one command, so
//! under `cargo test --workspace` the product's own tests do see ring. They stay free of it under
//! `cargo test --workspace --exclude honeylink-interop`.
