//! The modules of the crate: each builds on those below it, and there is no way round.

use std::fs;
use std::path::{Path, PathBuf};

/// From the lowest to the highest.
const ROOMS: [&str; 17] = [
    "error",
    "philox",
    "scratch",
    "quantizer",
    "real",
    "kernels",
    "codec",
    "frame",
    "batch",
    "foreign",
    "dropout",
    "lora",
    "stats",
    "products",
    "mixing",
    "push",
    "robust",
];

/// All source files under `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_module_imports_only_from_modules_below_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rank = |name: &str| ROOMS.iter().position(|room| *room == name);
    let mut found = [false; ROOMS.len()];
    for file in files(&source) {
        let place = file.strip_prefix(&source).unwrap().with_extension("");
        let room = place.iter().next().unwrap().to_str().unwrap();
        let Some(own) = rank(room) else {
            assert_eq!(room, "lib", "{} has no place in the order", file.display());
            continue;
        };
        found[own] = true;
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for path in code.flat_map(|line| line.split("crate::").skip(1)) {
            let name = path.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).next().unwrap();
            if let Some(other) = rank(name) {
                assert!(other <= own, "{} imports {name}, which is above {room}", file.display());
            } else {
                // Of the root only what it defines itself: all else is imported from where it is.
                assert_eq!(name, "crc32c", "{} imports {name:?} from the root", file.display());
            }
        }
    }
    assert_eq!(found, [true; ROOMS.len()]);
}
