DROP TABLE users_userprofile;
DROP TABLE business_business_details;
DROP TABLE business_business;
