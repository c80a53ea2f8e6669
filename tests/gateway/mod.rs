mod admin_listener;
mod bodies;
mod body_edges;
mod body_memory;
