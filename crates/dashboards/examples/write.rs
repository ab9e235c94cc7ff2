//! Writes what this crate makes: `cargo run -p postrider-dashboards --example write`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (path, content) in postrider_dashboards::files() {
        std::fs::write(root.join(&path), content)?;
        println!("{path}");
    }
    Ok(())
}
