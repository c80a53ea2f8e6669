//! What agents did, told to the control plane in the background: never in a request's way.
