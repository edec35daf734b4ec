//! ngx-gateway as a dynamic module for nginx.
