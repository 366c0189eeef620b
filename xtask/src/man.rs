//! Man pages for packagers: whatever the program itself prints, into one folder.

use crate::house::House;

pub(crate) fn run(house: &House) -> Result<(), String> {
    let folder = house.target.join("man");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = house.cargo(&["run", "--quiet", "--locked", "-p", "honeylink-cli", "--", "man"]);
    command.arg(&folder);
    house.hand_over(command)?;
    println!("man pages in {}", folder.display());
    Ok(())
}
