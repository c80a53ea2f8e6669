mod vault_at_rest;
mod vault_tampering;
