//! The identity key file: made once, on the first start, and never replaced by anything but the user.
//!
//! Four lines of text, so that a person who finds it knows what it is:
//!
//! ```text
//! honeylink-identity 1
//! id <64 hex: the public key>
//! secret <64 hex: the Ed25519 seed>
//! check <16 hex: BLAKE3 of everything above, first 8 bytes>
//! ```
//!
//! A key that can not be read is an error that says what to do. A new identity in its place would silently cut the device
//! off from every peer that trusts it, and teach people to click "yes, the key changed".

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use honeylink_core::identity::SecretKey;
use zeroize::Zeroizing;

use super::db::sync_parent;
use super::home::Home;

const MAGIC: &str = "honeylink-identity";
const VERSION: &str = "1";
/// A key file has 175 bytes. More than this is some other file.
const FILE_BYTES_MAX: u64 = 1024;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// State is there, the key it belongs to is not.
    #[error(
        "{key} is missing, but {state} exists: this device had an identity and its key is gone. Put the key back from a \
         backup. Without one, start over under a new identity with `mv '{state}' '{state}.old'`; every peer has to pair again",
        key = key.display(), state = state.display()
    )]
    Missing {
        /// Where the key should be.
        key: PathBuf,
        /// The state that belongs to it.
        state: PathBuf,
    },
    /// The file's content is not a whole key.
    #[error(
        "{key} is damaged ({cause}). Put it back from a backup. Without one, move it and the state aside \
         (`mv '{key}' '{key}.damaged'`) and start again under a new identity; every peer has to pair again",
        key = key.display()
    )]
    Damaged {
        /// The key file.
        key: PathBuf,
        /// What is wrong with it.
        cause: Damage,
    },
    /// Written by a newer HoneyLink.
    #[error("{} was written by a newer HoneyLink (key version {version}); update HoneyLink", key.display())]
    Newer {
        /// The key file.
        key: PathBuf,
        /// The version it says it has.
        version: String,
    },
    /// Other users can read it.
    #[error(
        "{key} can be read or written by other users (mode {mode:o}). If nobody else uses this machine, run \
         `chmod 600 '{key}'`; otherwise consider the key stolen: move it aside and pair again", key = key.display()
    )]
    Exposed {
        /// The key file.
        key: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user.
    #[error(
        "{} belongs to another user (uid {owner}, you are {user}); run HoneyLink as that user or use another --home",
        key.display()
    )]
    Foreign {
        /// The key file.
        key: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system has no random numbers for a new key: {0}")]
    Entropy(getrandom::Error),
    /// The operating system refused.
    #[error("can not read or write {}: {source}", key.display())]
    Io {
        /// The key file.
        key: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// What is wrong with a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A folder, a link or a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// Nothing in it, or an end before the last line.
    #[error("it ends too early")]
    Truncated,
    /// Not a key file at all.
    #[error("it is not a HoneyLink identity key")]
    NotAKey,
    /// The check line does not match the lines above it.
    #[error("its check line does not match")]
    Check,
    /// The secret does not belong to the id.
    #[error("its secret and its id do not belong together")]
    Mismatch,
}

/// The identity of this home: read, or made if this is its first start.
///
/// # Errors
/// [`KeyError`]. No error ever leads to a new identity.
pub fn load_or_create(home: &Home) -> Result<SecretKey, KeyError> {
    let key = home.layout().identity_key();
    let failed = |source| KeyError::Io { key: key.clone(), source };
    match std::fs::symlink_metadata(&key) {
        Ok(found) if found.is_file() => load(&key),
        Ok(_) => Err(KeyError::Damaged { key, cause: Damage::NotAFile }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let state = home.layout().state();
            if state.try_exists().map_err(failed)? {
                return Err(KeyError::Missing { key, state });
            }
            create(&key)
        }
        Err(source) => Err(failed(source)),
    }
}

fn load(path: &Path) -> Result<SecretKey, KeyError> {
    let failed = |source| KeyError::Io { key: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    check_owner(path, &file)?;
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    parse(&text).map_err(|wrong| match wrong {
        Wrong::Newer(version) => KeyError::Newer { key: path.to_owned(), version },
        Wrong::Damaged(cause) => KeyError::Damaged { key: path.to_owned(), cause },
    })
}

/// Looks at the opened file, not at the path, so that nobody can swap it in between.
#[cfg(unix)]
fn check_owner(path: &Path, file: &File) -> Result<(), KeyError> {
    use std::os::unix::fs::MetadataExt as _;
    let found = file.metadata().map_err(|source| KeyError::Io { key: path.to_owned(), source })?;
    check_rights(path, found.uid(), rustix::process::geteuid().as_raw(), found.mode() & 0o7777)
}

#[cfg(unix)]
fn check_rights(path: &Path, owner: u32, user: u32, mode: u32) -> Result<(), KeyError> {
    if owner != user {
        return Err(KeyError::Foreign { key: path.to_owned(), owner, user });
    }
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { key: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(_path: &Path, _file: &File) -> Result<(), KeyError> {
    Ok(())
}

/// Writes a new key so that at no instant a partial file has the final name: complete and synced under another name,
/// then renamed, then the folder synced. The home's lock keeps a second process from doing the same.
fn create(path: &Path) -> Result<SecretKey, KeyError> {
    let failed = |source| KeyError::Io { key: path.to_owned(), source };
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut seed[..]).map_err(KeyError::Entropy)?;
    let secret = SecretKey::from_bytes(&seed);

    let unborn = path.with_extension("key.new");
    match std::fs::remove_file(&unborn) {
        Ok(()) => {}
        // What a first start left that was killed before the rename was never anyone's identity.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed(source)),
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&unborn).map_err(failed)?;
    file.write_all(render(&secret).as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    drop(file);
    std::fs::rename(&unborn, path).and_then(|()| sync_parent(path)).map_err(failed)?;
    Ok(secret)
}

fn render(secret: &SecretKey) -> Zeroizing<String> {
    let hex = Zeroizing::new(HEXLOWER.encode(&secret.to_bytes()[..]));
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
    for part in [MAGIC, " ", VERSION, "\nid ", &secret.id().to_string(), "\nsecret ", &hex, "\n"] {
        text.push_str(part);
    }
    let check = check(text.as_bytes());
    for part in ["check ", &check, "\n"] {
        text.push_str(part);
    }
    text
}

fn check(text: &[u8]) -> String {
    HEXLOWER.encode(&blake3::hash(text).as_bytes()[..8])
}

#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Damaged(Damage),
    Newer(String),
}

fn parse(bytes: &[u8]) -> Result<SecretKey, Wrong> {
    let not_a_key = || Wrong::Damaged(Damage::NotAKey);
    if bytes.is_empty() {
        return Err(Wrong::Damaged(Damage::Truncated));
    }
    let text = core::str::from_utf8(bytes).map_err(|_| not_a_key())?;
    let mut lines = text.split_inclusive('\n');
    let version = lines.next().and_then(|line| line.trim_end().strip_prefix(MAGIC)).ok_or_else(not_a_key)?;
    if version.trim_start() != VERSION {
        let newer = version.trim_start().parse::<u32>().is_ok_and(|v| v > 1);
        return Err(if newer { Wrong::Newer(version.trim().to_owned()) } else { not_a_key() });
    }
    let mut field = |name: &str| {
        let line =
            lines.next().filter(|line| line.ends_with('\n')).ok_or(Wrong::Damaged(Damage::Truncated))?;
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
        value.map(str::trim_end).ok_or_else(not_a_key)
    };
    let (id, secret, found) = (field("id")?, field("secret")?, field("check")?);
    let above = text.find("check ").and_then(|at| bytes.get(..at)).ok_or_else(not_a_key)?;
    if check(above) != found {
        return Err(Wrong::Damaged(Damage::Check));
    }
    let mut seed = Zeroizing::new([0; 32]);
    match HEXLOWER.decode_len(secret.len()) {
        Ok(32) => HEXLOWER.decode_mut(secret.as_bytes(), &mut seed[..]).map_err(|_| not_a_key())?,
        Ok(_) | Err(_) => return Err(not_a_key()),
    };
    let secret = SecretKey::from_bytes(&seed);
    if secret.id().to_string() == id { Ok(secret) } else { Err(Wrong::Damaged(Damage::Mismatch)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::home::HomeLayout;

    fn home(dir: &tempfile::TempDir) -> Home {
        Home::open(HomeLayout::new(dir.path().join("home"))).unwrap()
    }

    #[test]
    fn the_first_start_makes_an_identity_and_every_later_one_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let id = load_or_create(&home).unwrap().id();
        assert_eq!(load_or_create(&home).unwrap().id(), id);
        assert!(!home.layout().dir().join("identity.key.new").exists());
        let other = tempfile::tempdir().unwrap();
        assert_ne!(load_or_create(&self::home(&other)).unwrap().id(), id);
    }

    #[test]
    fn what_a_killed_first_start_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        std::fs::write(home.layout().dir().join("identity.key.new"), "honeylink-ide").unwrap();
        load_or_create(&home).unwrap();
    }

    /// The format on people's disks. The seed is that of RFC 8032 section 7.1, test 1.
    #[test]
    fn version_1_has_these_bytes() {
        let seed =
            HEXLOWER.decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let secret = SecretKey::from_bytes(&seed.try_into().unwrap());
        let text = "honeylink-identity 1\n\
            id d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\n\
            secret 9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n\
            check 96acb92e762dec1f\n";
        assert_eq!(render(&secret).as_str(), text);
        assert_eq!(parse(text.as_bytes()).unwrap().id(), secret.id());
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_an_error_and_never_another_identity() {
        let good = render(&SecretKey::from_u64(1)).as_bytes().to_vec();
        for cut in 0..good.len() {
            assert!(parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            for change in [1, 0x20, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= change;
                // A changed line end can leave all values intact; then it is still the same identity.
                if let Ok(secret) = parse(&bad) {
                    assert_eq!(secret.id(), SecretKey::from_u64(1).id(), "byte {at}");
                }
            }
        }
        assert_eq!(parse(b"").unwrap_err(), Wrong::Damaged(Damage::Truncated));
        assert_eq!(parse(b"honeylink-identity 2\nnew things\n").unwrap_err(), Wrong::Newer("2".to_owned()));
        assert_eq!(parse(b"-----BEGIN PRIVATE KEY-----\n").unwrap_err(), Wrong::Damaged(Damage::NotAKey));
    }

    #[test]
    fn a_damaged_key_stays_where_it_is_and_the_error_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        load_or_create(&home).unwrap();
        let key = home.layout().identity_key();
        let whole = std::fs::read(&key).unwrap();
        std::fs::write(&key, &whole[..100]).unwrap();
        let error = load_or_create(&home).unwrap_err();
        assert!(matches!(error, KeyError::Damaged { cause: Damage::Truncated, .. }), "{error}");
        assert!(error.to_string().contains("backup"));
        assert_eq!(std::fs::read(&key).unwrap(), &whole[..100]);
    }

    #[test]
    fn a_missing_key_beside_existing_state_is_not_a_first_start() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        std::fs::write(home.layout().state(), "x").unwrap();
        assert!(matches!(load_or_create(&home), Err(KeyError::Missing { .. })));
        assert!(!home.layout().identity_key().exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_key_others_can_read_or_own_is_refused() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        load_or_create(&home).unwrap();
        let key = home.layout().identity_key();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_create(&home).unwrap_err();
        assert!(error.to_string().contains("chmod 600") && error.to_string().contains("644"), "{error}");

        assert!(matches!(
            check_rights(&key, 1000, 1001, 0o600),
            Err(KeyError::Foreign { owner: 1000, user: 1001, .. })
        ));

        let real = home.layout().dir().join("real.key");
        std::fs::rename(&key, &real).unwrap();
        symlink(&real, &key).unwrap();
        assert!(matches!(load_or_create(&home), Err(KeyError::Damaged { cause: Damage::NotAFile, .. })));
    }
}
