//! Names of owners and groups, from the guest's own /etc/passwd and /etc/group.

use crate::user;
use std::collections::HashMap;

pub struct Accounts {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Accounts {
    #[must_use]
    pub fn read() -> Self {
        Self::parse(&user::read("/etc/passwd"), &user::read("/etc/group"))
    }

    fn parse(passwd: &str, group: &str) -> Self {
        Self { users: names(passwd), groups: names(group) }
    }

    /// The id itself where it has no name.
    #[must_use]
    pub fn user(&self, id: u32) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// As [`Self::user`].
    #[must_use]
    pub fn group(&self, id: u32) -> String {
        self.groups.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// Both files begin `name:password:id`. The first line with an id names it, as with getpwuid(3).
fn names(file: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in file.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(id)) = (fields.next(), fields.nth(1).and_then(user::number)) else {
            continue;
        };
        if !name.is_empty() {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_without_a_name_is_told_as_a_number() {
        let accounts = Accounts::parse("root:x:0:0\ntoor:x:0:0\nodd\n:x:7:7\nx:x:-1:\n", "wheel:x:10:ann\n");
        assert_eq!([0, 7, 1000].map(|id| accounts.user(id)), ["root", "7", "1000"]);
        assert_eq!([10, 0].map(|id| accounts.group(id)), ["wheel", "0"]);
    }
}
