mod admin_listener;
