# The course in a container, for one reader or as the image of a JupyterHub: CPU only, nothing is fetched after the
# build, and nothing runs as root.
#   docker build --tag fss_lab .
#   docker run --rm --publish 127.0.0.1:8888:8888 fss_lab     then open the address that it prints
# The student edition is in ~/course; the repository, which holds the solutions, can be read in /opt/fss_lab.
FROM python:3.12-slim

ENV OMP_WAIT_POLICY=PASSIVE \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1

COPY . /opt/fss_lab
WORKDIR /opt/fss_lab
RUN python lab.py install --here \
    && fss-lab course release --output /opt/course \
    && for tab in menu formgrader create-assignment assignment-list course-list; do \
        jupyter labextension disable "@jupyter/nbgrader:$tab"; done \
    && useradd --create-home --uid 1000 student

USER 1000
WORKDIR /home/student
EXPOSE 8888
CMD ["sh", "-c", "test -e course || cp -r /opt/course course; exec jupyter lab --ip=0.0.0.0 --no-browser"]
