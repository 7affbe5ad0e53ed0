-- MLflow and Optuna each in a database of their own: both keep a table alembic_version.
\getenv mlflow MLFLOW_DB_PASSWORD
\getenv optuna OPTUNA_DB_PASSWORD
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE ROLE optuna LOGIN PASSWORD :'optuna';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE optuna OWNER optuna;
