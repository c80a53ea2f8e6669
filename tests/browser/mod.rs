//! What a page in a real browser can do, through headless Chromium.

mod admin_pages;
mod chromium;
