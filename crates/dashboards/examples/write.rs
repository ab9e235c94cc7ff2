//! Writes what this crate makes: `cargo run -p postrider-dashboards --example write`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (path, content) in postrider_dashboards::files() {
        let file = root.join(&path);
        std::fs::create_dir_all(file.parent().unwrap_or(&root))?;
        std::fs::write(file, content)?;
        println!("{path}");
    }
    Ok(())
}
