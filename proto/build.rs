//! Compiles the wire format with `protox`, so that nobody needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        [
            "identity/v1/event.proto",
            "provisioning/v1/event.proto",
            "control/v1/event.proto",
            "keys/v1/page.proto",
        ],
        ["proto"],
    )?;
    prost_build::Config::new().bytes(["."]).btree_map(["."]).compile_fds(files)?;
    Ok(())
}
