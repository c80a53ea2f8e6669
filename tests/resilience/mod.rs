mod vault_damage;
mod vault_disk;
mod vault_kill;
pub mod vault_kit;
mod vault_life;
mod vault_rekey;
