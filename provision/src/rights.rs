//! Gives up the rights that are not needed after the sockets are open.

use nix::unistd::{User, geteuid, setgid, setgroups, setuid};

use crate::error::ProvisionError;

/// Gives up every right of root for good and becomes another user. A process that does not run as root only loses the
/// possibility to gain rights later.
///
/// # Errors
/// There is no such user, or the system refuses.
pub fn give_up(user: Option<&str>) -> Result<(), ProvisionError> {
    let fail = |what: &str| {
        let user = user.unwrap_or("(the same)").to_owned();
        let what = what.to_owned();
        move |error: nix::errno::Errno| ProvisionError::Rights {
            user,
            message: format!("{what}: {error}"),
        }
    };
    nix::sys::prctl::set_no_new_privs().map_err(fail("no_new_privs"))?;
    let Some(name) = user else {
        if geteuid().is_root() {
            tracing::warn!("this server runs as root; name a user with fewer rights with --user");
        }
        return Ok(());
    };
    let found = User::from_name(name).map_err(fail("looking it up"))?;
    let found = found.ok_or_else(|| ProvisionError::Rights {
        user: name.to_owned(),
        message: "there is no user of this name".into(),
    })?;
    if found.uid.is_root() {
        return Err(ProvisionError::Rights {
            user: name.to_owned(),
            message: "it is root".into(),
        });
    }
    setgroups(&[]).map_err(fail("supplementary groups"))?;
    setgid(found.gid).map_err(fail("group"))?;
    setuid(found.uid).map_err(fail("user"))?;
    if setuid(nix::unistd::Uid::from_raw(0)).is_ok() {
        return Err(ProvisionError::Rights {
            user: name.to_owned(),
            message: "the rights of root could be taken back".into(),
        });
    }
    Ok(())
}

/// Makes a directory for this server alone, owned by the user that the server will become.
///
/// # Errors
/// It cannot be made, or the directory above it is missing.
pub fn private_directory(path: &std::path::Path, user: Option<&str>) -> Result<(), ProvisionError> {
    // The operator makes the directories above it: if we made them as root, the user could not enter them.
    let above = path.parent().filter(|p| !p.as_os_str().is_empty());
    if let Some(above) = above {
        std::fs::metadata(above).map_err(ProvisionError::file(above))?;
    }
    fabric_identity::private_directory(path).map_err(|error| ProvisionError::Rights {
        user: user.unwrap_or("(the same)").to_owned(),
        message: error.to_string(),
    })?;
    let found = user.and_then(|name| User::from_name(name).ok().flatten());
    if let Some(found) = found.filter(|_| geteuid().is_root()) {
        // Only the directory changes its owner. Its contents belong to that user already, and may be anything.
        nix::unistd::chown(path, Some(found.uid), Some(found.gid)).map_err(|e| ProvisionError::File {
            path: path.to_owned(),
            source: e.into(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_below_one_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        private_directory(&dir.path().join("state"), None).unwrap();
        let error = private_directory(&dir.path().join("a/b"), None).unwrap_err();
        assert!(error.to_string().ends_with("/a"), "{error}");
        assert!(!dir.path().join("a").exists());
    }
}
