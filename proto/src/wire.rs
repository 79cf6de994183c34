//! The generated types of `proto/*.proto`. Only the codecs of this crate see them.

#![expect(unreachable_pub, reason = "the generator writes `pub`")]

pub(crate) mod identity {
    include!(concat!(env!("OUT_DIR"), "/rollcall.identity.v1.rs"));
}
pub(crate) mod provisioning {
    include!(concat!(env!("OUT_DIR"), "/rollcall.provisioning.v1.rs"));
}
pub(crate) mod control {
    include!(concat!(env!("OUT_DIR"), "/rollcall.control.v1.rs"));
}
pub(crate) mod keys {
    include!(concat!(env!("OUT_DIR"), "/rollcall.keys.v1.rs"));
}
