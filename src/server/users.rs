//! The names of this machine's users, for messages (passwd(5), group(5)).

use std::{fs, os::unix::fs::MetadataExt, path::Path};

const ROOT: u32 = 0;

/// Returns the name of the user with this number, or the number if `/etc/passwd` does not list it.
pub fn user_name(uid: u32) -> String {
    name_in("/etc/passwd", uid).unwrap_or_else(|| uid.to_string())
}

/// Returns the user that may use `path`, in the form for `sudo -u`. This is its owner. If root owns it,
/// it is the user of its group, because packages install configuration files so. If `path` cannot be
/// read, the nearest directory above it counts.
pub fn user_of(path: &Path) -> String {
    let found = path.ancestors().find_map(|it| fs::metadata(it).ok());
    let Some(found) = found else { return "root".to_owned() };
    if found.uid() != ROOT {
        return name_in("/etc/passwd", found.uid()).unwrap_or_else(|| format!("#{}", found.uid()));
    }
    let group = name_in("/etc/group", found.gid()).filter(|it| is_user(it));
    group.unwrap_or_else(|| "root".to_owned())
}

/// Returns the first field of the line whose third field is `number`. Both files have that form.
fn name_in(file: &str, number: u32) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let number = number.to_string();
    let line = text.lines().find(|it| it.split(':').nth(2) == Some(&number))?;
    line.split(':').next().map(str::to_owned)
}

fn is_user(name: &str) -> bool {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines().any(|it| it.split(':').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_called_by_their_names() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_000), "4000000000");
        assert_eq!(user_of(Path::new("/etc/there/is/no/such/file")), "root");
    }
}
