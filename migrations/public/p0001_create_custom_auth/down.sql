DROP TABLE custom_auth_tenant;
DROP TABLE custom_auth_user;
