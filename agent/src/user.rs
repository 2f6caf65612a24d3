//! Who a program runs as, from the guest's own /etc/passwd and /etc/group. Their content is the guest's: any bytes.

use rustix::fs::{Mode, OFlags};
use std::io::Read;

/// More than any honest file; a longer one is read up to here.
const FILE_MAX: u64 = 1024 * 1024;
/// The kernel's own limit is 65,536; more than this is no account's.
const GROUPS_MAX: usize = 1024;

#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum UserError {
    UnknownUser,
    UnknownGroup,
}

/// Resolves `name`, `uid`, `name:group` or `uid:gid` with the guest's files.
///
/// # Errors
/// [`UserError`] when a name has no entry. A number needs none: its group is 0 then, as with other runtimes.
pub fn lookup(user: &str) -> Result<Identity, UserError> {
    resolve(user, &read("/etc/passwd"), &read("/etc/group"))
}

/// The pure part of [`lookup`].
///
/// # Errors
/// As [`lookup`].
pub fn resolve(user: &str, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (name, wanted_group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let account = passwd.lines().find_map(|line| Account::parse(line).filter(|a| a.is(name)));
    let (uid, mut gid, home) = match (&account, number(name)) {
        (Some(account), _) => (account.uid, account.gid, account.home.to_owned()),
        (None, Some(uid)) => (uid, 0, "/".to_owned()),
        (None, None) => return Err(UserError::UnknownUser),
    };
    // A group that was asked for stands alone; else the account's supplementary groups come along.
    let groups = match wanted_group {
        Some(wanted) => {
            gid = group_id(wanted, group).ok_or(UserError::UnknownGroup)?;
            vec![gid]
        }
        None => account.map_or(vec![gid], |account| supplementary(account.name, gid, group)),
    };
    Ok(Identity { uid, gid, groups, home })
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Account<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).filter(|home| home.starts_with('/')).unwrap_or("/");
        Some(Self { name, uid, gid, home })
    }

    fn is(&self, wanted: &str) -> bool {
        self.name == wanted || number(wanted) == Some(self.uid)
    }
}

/// Digits only: `+1`, `-1` and 2^32-1, which means "no change" to the kernel, are no ids.
pub(crate) fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

fn group_id(wanted: &str, group: &str) -> Option<u32> {
    let named = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (name == wanted).then(|| number(fields.nth(1)?)).flatten()
    });
    named.or_else(|| number(wanted))
}

fn supplementary(name: &str, gid: u32, group: &str) -> Vec<u32> {
    let mut groups = vec![gid];
    for line in group.lines() {
        let mut fields = line.split(':').skip(2);
        let (Some(id), Some(members)) = (fields.next().and_then(number), fields.next()) else {
            continue;
        };
        let is_member = members.split(',').any(|member| member == name);
        if is_member && !groups.contains(&id) && groups.len() < GROUPS_MAX {
            groups.push(id);
        }
    }
    groups
}

/// A missing or odd file is an empty one. Never waits: the guest may have put a FIFO there.
pub(crate) fn read(path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(fd) = rustix::fs::open(path, flags, Mode::empty()) else {
        return String::new();
    };
    let file = std::fs::File::from(fd);
    let mut bytes = Vec::with_capacity(4096);
    if file.metadata().is_ok_and(|meta| meta.is_file()) {
        let _ = file.take(FILE_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:5:5\nann:x:1000:1001:Ann:/home/ann:/bin/sh\nbob:x:4294967295:1::/:\n";
    const GROUP: &str =
        "root:x:0:\nann:x:1001:\naudio:x:29:bob,ann\ndocker:x:99:annabel\nx\nwheel:x:10:ann\n";

    #[test]
    fn a_name_brings_its_groups_and_home() {
        let expected =
            Identity { uid: 1000, gid: 1001, groups: vec![1001, 29, 10], home: "/home/ann".into() };
        assert_eq!(resolve("ann", PASSWD, GROUP), Ok(expected.clone()));
        assert_eq!(resolve("1000", PASSWD, GROUP), Ok(expected));
    }

    #[test]
    fn a_number_needs_no_entry() {
        let expected = Identity { uid: 4242, gid: 0, groups: vec![0], home: "/".into() };
        assert_eq!(resolve("4242", PASSWD, GROUP), Ok(expected));
        assert_eq!(resolve("4242:77", PASSWD, GROUP).map(|i| (i.gid, i.groups)), Ok((77, vec![77])));
    }

    #[test]
    fn a_group_that_was_asked_for_stands_alone() {
        assert_eq!(resolve("ann:audio", PASSWD, GROUP).map(|i| (i.gid, i.groups)), Ok((29, vec![29])));
    }

    #[test]
    fn unknown_names_and_odd_numbers_are_refused() {
        for user in ["", "eve", "-1", "+1", "4294967295", "bob", "99999999999", "ann ", "0x0"] {
            assert_eq!(resolve(user, PASSWD, GROUP), Err(UserError::UnknownUser), "{user}");
        }
        assert_eq!(resolve("ann:nope", PASSWD, GROUP), Err(UserError::UnknownGroup));
        assert_eq!(resolve("ann:", PASSWD, GROUP), Err(UserError::UnknownGroup));
    }
}
