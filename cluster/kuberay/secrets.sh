#!/usr/bin/env bash
# Make the secrets of a namespace, once: nobody sees them, and none stands in a file, a log or an argument.
# What is there stays as it is; to replace one, delete it first.
#
#   bash cluster/kuberay/secrets.sh            # after `kubectl apply -k cluster/kuberay`
#   kubectl -n tis-ray get secret tis-ray-token -o jsonpath='{.data.auth_token}' | base64 --decode
set -euo pipefail
umask 077
namespace=${1:-tis-ray}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# Make a Secret of the files in $work/NAME, unless there is one.
make_secret() {
  if kubectl -n "$namespace" get secret "$1" >/dev/null 2>&1; then
    echo "$1: is there"
  else
    kubectl -n "$namespace" create secret generic "$1" --from-file="$work/$1"
  fi
}

mkdir "$work"/tis-ray-{token,redis,mlflow,mlflow-user}
random >"$work/tis-ray-token/auth_token"
random >"$work/tis-ray-redis/password"

cd "$work/tis-ray-mlflow"
random >database-password
random >admin-password
random >session-key
printf 'postgresql://mlflow:%s@postgres:5432/mlflow' "$(<database-password)" >database-uri
cat >basic_auth.ini <<END
[mlflow]
default_permission = READ
database_uri = $(<database-uri)
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
END

# What studies log in with. Make them a user of their own on the server, and put it here, when others use it, too.
printf admin >"$work/tis-ray-mlflow-user/username"
cp admin-password "$work/tis-ray-mlflow-user/password"
cd - >/dev/null

if kubectl -n "$namespace" get secret tis-ray-mlflow >/dev/null 2>&1; then
  echo "tis-ray-mlflow: is there" # and with it the password that the user's Secret needs
else
  make_secret tis-ray-mlflow
  make_secret tis-ray-mlflow-user
fi
make_secret tis-ray-token
make_secret tis-ray-redis
